"""`python -m runtime.gpu_check`: build, check and time everything that the compiler writes, on one device."""
