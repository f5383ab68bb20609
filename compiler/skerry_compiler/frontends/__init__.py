"""Front ends: a model file of some format to a checked ONNX model. One file each."""
