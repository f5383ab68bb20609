"""scikit-learn's estimators by our own hand, where skl2onnx has no converter, a wrong one, or one of slow operators."""
