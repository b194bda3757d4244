//! The gate: the three filters fused, one body pass.
