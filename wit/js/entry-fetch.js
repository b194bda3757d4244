import * as fetchInterface from "tensorgate:handler/fetch@0.1.0";
reach.fetch = fetchInterface;
