"""Portrait to 3DMM: detect, align, fit."""
