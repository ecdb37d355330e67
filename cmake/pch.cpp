// A target for the precompiled header needs one source.
