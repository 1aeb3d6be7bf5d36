# cmake --install: headers and a package that find_package(multistate) finds; the demo, if it was built.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/multistate)
install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
install(TARGETS multistate EXPORT multistate-targets INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT multistate-targets NAMESPACE multistate:: DESTINATION ${package_dir})
configure_package_config_file(cmake/multistate-config.cmake.in ${PROJECT_BINARY_DIR}/multistate-config.cmake
                              INSTALL_DESTINATION ${package_dir} PATH_VARS CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/multistate-config-version.cmake
                                 COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/multistate-config.cmake ${PROJECT_BINARY_DIR}/multistate-config-version.cmake
        DESTINATION ${package_dir})
# The demo, which carries its model and text. Without it the headers are installed alone.
if(TARGET perplexity)
  install(TARGETS perplexity RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT perplexity OPTIONAL)
endif()
