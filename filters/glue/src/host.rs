//! The narrow port between a filter and its proxy.
