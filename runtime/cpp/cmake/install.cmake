# Files for other projects: headers, libraries, a CMake package and a pkg-config file. They use paths relative to
# themselves, so the whole prefix may be moved.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

if(SKBUILD)
  # In the Python package. A wheel has no symbolic links, so it would contain a shared library three times; it has
  # the static library only.
  set(shared_by_default OFF)
  set(root multires_edge/runtime/sdk)
  set(include_dir ${root}/include)
  set(library_dir ${root}/lib)
else()
  set(shared_by_default ON)
  set(include_dir ${CMAKE_INSTALL_INCLUDEDIR})
  set(library_dir ${CMAKE_INSTALL_LIBDIR})
endif()
set(package_dir ${library_dir}/cmake/multires)
option(MULTIRES_SHARED "Build and install the shared library too" ${shared_by_default})

# A C program that links the static library needs the C++ runtime, also if CMake has no C++ compiler enabled.
set(runtimes ${CMAKE_CXX_IMPLICIT_LINK_LIBRARIES})
list(FILTER runtimes INCLUDE REGEX "^(stdc\\+\\+|c\\+\\+|m)$")
list(REMOVE_DUPLICATES runtimes)
foreach(runtime IN LISTS runtimes)
  target_link_libraries(multires INTERFACE $<INSTALL_INTERFACE:$<$<LINK_LANGUAGE:C>:${runtime}>>)
endforeach()
add_library(multires::multires ALIAS multires)
set(targets multires)

if(MULTIRES_SHARED)
  add_library(multires_shared SHARED $<TARGET_OBJECTS:multires>)
  add_library(multires::multires_shared ALIAS multires_shared)
  target_include_directories(multires_shared INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>)
  target_compile_features(multires_shared INTERFACE cxx_std_17)
  # Before 1.0, a minor version may change the interface.
  set_target_properties(multires_shared PROPERTIES
    OUTPUT_NAME multires
    LINKER_LANGUAGE CXX
    VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  # Hidden visibility still exports templates of the standard library; this exports the C interface alone.
  set(exports ${PROJECT_SOURCE_DIR}/cmake/exports.map)
  target_link_options(multires_shared PRIVATE LINKER:--version-script=${exports}
    $<TARGET_PROPERTY:multires,INTERFACE_LINK_OPTIONS>)  # such as a sanitizer's
  set_target_properties(multires_shared PROPERTIES LINK_DEPENDS ${exports})
  list(APPEND targets multires_shared)
endif()

if(MULTIRES_CUDA)
  list(APPEND targets multires_cuda)
  install(FILES include/multires_cuda.hpp DESTINATION ${include_dir})
endif()
if(MULTIRES_TENSORRT)
  list(APPEND targets multires_tensorrt)
  install(FILES include/multires_tensorrt.hpp DESTINATION ${include_dir})
endif()

install(FILES include/multires.h include/multires.hpp include/multires_ecg.hpp DESTINATION ${include_dir})
install(TARGETS ${targets} EXPORT multires-targets
  ARCHIVE DESTINATION ${library_dir}
  LIBRARY DESTINATION ${library_dir}
  INCLUDES DESTINATION ${include_dir})
install(EXPORT multires-targets NAMESPACE multires:: DESTINATION ${package_dir})

set(generated ${PROJECT_BINARY_DIR}/package)
configure_package_config_file(cmake/multires-config.cmake.in ${generated}/multires-config.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${generated}/multires-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${generated}/multires-config.cmake ${generated}/multires-config-version.cmake DESTINATION ${package_dir})

file(RELATIVE_PATH libdir_to_prefix /${library_dir}/pkgconfig /${root})
file(RELATIVE_PATH prefix_to_include /${root} /${include_dir})
file(RELATIVE_PATH prefix_to_library /${root} /${library_dir})
list(TRANSFORM runtimes PREPEND -l)
string(REPLACE ";" " " runtimes "${runtimes}")
if(NOT MULTIRES_SHARED)
  set(libs_of_static_only " ${runtimes}")
endif()
configure_file(cmake/multires.pc.in ${generated}/multires.pc @ONLY)
install(FILES ${generated}/multires.pc DESTINATION ${library_dir}/pkgconfig)
