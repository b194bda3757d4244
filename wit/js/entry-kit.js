import * as arrays from "tensorgate:kit/arrays@0.1.0";
import { connectKit } from "../../kit.js";
connectKit(arrays);
