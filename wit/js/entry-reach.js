import { connectReach } from "../../reach.js";
const reach = {};
connectReach(reach);
