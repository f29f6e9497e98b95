"""Motion models of layers: designs, frames and their pyramids, tiles of rows, pairs of frames."""
