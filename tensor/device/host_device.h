// VT_HD marks a function that compiles for the CPU and, under nvcc, for the GPU as well.
#pragma once

#if defined(__CUDACC__)
#define VT_HD __host__ __device__
#else
#define VT_HD
#endif

// 1 where the library is built with CUDA; guards the kernels and their launches. Set by the build.
#ifndef VT_CUDA
#define VT_CUDA 0
#endif
