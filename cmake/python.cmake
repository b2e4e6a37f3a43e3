# The extension module of the package `fonio`: python/core/*.c on the public headers, with the library inside.

find_package(Python 3.11 REQUIRED COMPONENTS Interpreter Development.SABIModule)
file(GLOB python_sources CONFIGURE_DEPENDS python/core/*.c)
Python_add_library(fonio_python MODULE USE_SABI 3.11 WITH_SOABI ${python_sources})
set_target_properties(fonio_python PROPERTIES OUTPUT_NAME _core LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/python)
# A libfonio.a of the same sources that is there already, as in scripts/test, need not be built again.
set(FONIO_LIBRARY "" CACHE FILEPATH "A libfonio.a for the Python package, in place of one that is built with it")
if(FONIO_LIBRARY)
  target_include_directories(fonio_python PRIVATE ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(fonio_python PRIVATE ${FONIO_LIBRARY} m Threads::Threads)
else()
  target_link_libraries(fonio_python PRIVATE fonio_static)
endif()
fonio_compile(fonio_python)
fonio_warnings(fonio_python ${FONIO_WARNINGS_PROGRAM})
target_compile_options(fonio_python PRIVATE ${FONIO_HARDENING} $<$<CONFIG:Release>:-O2>)
# Nothing but Python's way in is seen from outside: several copies of the library in one process never meet.
target_link_options(fonio_python PRIVATE
  -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/python.map -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed
  $<$<CONFIG:Release>:-s>)
set_target_properties(fonio_python PROPERTIES LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/python.map)
install(TARGETS fonio_python LIBRARY DESTINATION fonio COMPONENT python EXCLUDE_FROM_ALL)
