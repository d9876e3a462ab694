# Installs headers, libraries, program and CMake package, so that find_package(vitrine CONFIG) works.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

get_property(libraries GLOBAL PROPERTY VITRINE_LIBRARIES)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/vitrine)
foreach(library IN LISTS libraries)
  install(TARGETS vitrine_${library} EXPORT vitrineTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${library} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/vitrine
          FILES_MATCHING PATTERN "*.h" PATTERN "*.cuh")
endforeach()
install(TARGETS vitrine_all EXPORT vitrineTargets)
if(TARGET vitrine)
  install(TARGETS vitrine RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

install(EXPORT vitrineTargets NAMESPACE vitrine:: DESTINATION ${package_folder})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/vitrineConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/cmake/vitrineConfig.cmake INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/cmake/vitrineConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/cmake/vitrineConfig.cmake ${PROJECT_BINARY_DIR}/cmake/vitrineConfigVersion.cmake
              ${PROJECT_SOURCE_DIR}/cmake/VitrineDependencies.cmake ${PROJECT_SOURCE_DIR}/cmake/FindCBLAS.cmake
              ${PROJECT_SOURCE_DIR}/cmake/FindDNNL.cmake ${PROJECT_SOURCE_DIR}/cmake/FindWebP.cmake
        DESTINATION ${package_folder})
