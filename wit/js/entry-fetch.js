import * as fetchInterface from "tensorgate:handler/fetch@0.2.0";
reach.fetch = fetchInterface;
