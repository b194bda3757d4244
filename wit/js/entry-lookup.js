import * as lookupInterface from "tensorgate:handler/lookup@0.1.0";
reach.lookup = lookupInterface;
