# make install: headers, libraries, a pkg-config file for each library, and a CMake package.

# The pkg-config files find the rest from where they lie, so that an installed tree can be moved.
file(RELATIVE_PATH includedir_from_pkgconfig
  ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_FULL_INCLUDEDIR})

set(targets fonio fonio_static)
set(headers_left_out PATTERN io.h EXCLUDE)
configure_file(cmake/fonio.pc.in fonio.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/fonio.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
if(TARGET fonio_io)
  list(APPEND targets fonio_io)
  set(headers_left_out)
  configure_file(cmake/fonio_io.pc.in fonio_io.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/fonio_io.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()

install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN *.h ${headers_left_out})
install(TARGETS ${targets} EXPORT fonio
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(EXPORT fonio FILE fonio-targets.cmake NAMESPACE fonio:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/fonio)
configure_package_config_file(cmake/fonio-config.cmake.in fonio-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/fonio)
write_basic_package_version_file(fonio-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/fonio-config.cmake ${PROJECT_BINARY_DIR}/fonio-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/fonio)
