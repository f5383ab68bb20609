"""The TFLite format: read as if an enemy wrote it, written for LiteRT, and turned into ONNX."""
