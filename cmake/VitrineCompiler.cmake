# How every source of Vitrine is compiled: language standard, optimisation, warnings, sanitizers, ccache and CUDA.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

if(PROJECT_IS_TOP_LEVEL)
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, RelWithDebInfo or Debug" FORCE)
  endif()
  find_program(CCACHE_PROGRAM ccache)
  if(CCACHE_PROGRAM)
    foreach(language IN ITEMS CXX CUDA)
      if(NOT CMAKE_${language}_COMPILER_LAUNCHER)
        set(CMAKE_${language}_COMPILER_LAUNCHER "env;CCACHE_SLOPPINESS=pch_defines,time_macros;${CCACHE_PROGRAM}")
      endif()
    endforeach()
  endif()
endif()

# Without errno and trapping arithmetic the compiler may vectorise loops; NaN and infinity keep their meaning.
# -ffast-math is not here on purpose: it would let the compiler assume that NaN does not exist.
set(flags -Wall -Wextra -Wshadow -Wno-unknown-pragmas -fno-math-errno -fno-trapping-math)
if(VITRINE_NATIVE)
  list(APPEND flags -march=native)
endif()
if(VITRINE_WERROR)
  list(APPEND flags -Werror -Wno-error=restrict)  # g++ 12 sees overlaps in std::string where there are none (bug 105651)
endif()
if(VITRINE_SANITIZE)
  list(APPEND flags -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
       -Wno-maybe-uninitialized)  # g++ 12 warns about its own std::regex when it adds the checks
  add_link_options(-fsanitize=address,undefined)
endif()
foreach(flag IN LISTS flags)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${flag}>" "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${flag}>")
endforeach()

if(VITRINE_CUDA)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80 90a-real)  # A100 and H100/H200; others compile the PTX of sm_80 when they load it
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25.1 does not know that nvcc 12 and later speak C++20
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  endif()
  # fmt takes nvcc for a compiler without constexpr. Its compile-time check of format strings, which nvcc cannot
  # evaluate, is left to the C++ build of the same file.
  set(cuda_flags --expt-relaxed-constexpr --extended-lambda -DFMT_USE_CONSTEXPR=1 -DFMT_CONSTEVAL=)
  add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:${cuda_flags}>")
endif()
