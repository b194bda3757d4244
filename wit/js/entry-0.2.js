// What version 0.2 of the interface adds.
import * as carryInterface from "tensorgate:handler/carry@0.2.0";
import * as contextInterface from "tensorgate:handler/context@0.2.0";
import { connectRequest } from "../../request.js";
connectRequest({ carry: carryInterface, context: contextInterface });
const rejection = ({ message, caller }) => ({ log: message, caller: caller == null ? undefined : String(caller) });
