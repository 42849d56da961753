"""Whether the layer will work where it is going: native files, sizes, a real import."""
