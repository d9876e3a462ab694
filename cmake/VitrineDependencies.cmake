# The libraries that Vitrine needs, listed once: the build and the installed package both read this file.

set(VITRINE_DEPENDENCIES Threads fmt CBLAS OpenMP DNNL JPEG PNG WebP TIFF GIF ZLIB yaml-cpp)

# Gives a library one name where its releases disagree. Call it after the packages have been found.
macro(vitrine_name_dependencies)
  if(TARGET yaml-cpp AND NOT TARGET yaml-cpp::yaml-cpp)  # yaml-cpp before 0.8
    add_library(yaml-cpp::yaml-cpp INTERFACE IMPORTED)
    target_link_libraries(yaml-cpp::yaml-cpp INTERFACE yaml-cpp)
  endif()
endmacro()
