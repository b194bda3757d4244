import * as lookupInterface from "tensorgate:handler/lookup@0.2.0";
reach.lookup = lookupInterface;
