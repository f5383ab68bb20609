"""Graphics processors of NVIDIA's: models to CUDA source by TVM and to cubins by nvcc, and their proof on a device."""
