# librasure.a, its header, and what a CMake or pkg-config user needs to link it statically.
include(CMakePackageConfigHelpers)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/rasure)
# A folder of our own: other packages install other copies of these libraries under the same names.
set(bundle ${CMAKE_INSTALL_LIBDIR}/rasure)

install(TARGETS rasure EXPORT rasureTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/rasure DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES LICENSE NOTICE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES ${RASURE_BUNDLED_LIBS} DESTINATION ${bundle})
install(FILES ${RASURE_BUNDLED_LICENSES} DESTINATION ${CMAKE_INSTALL_DOCDIR}/licenses)
if(TARGET rasure_cli)
    install(TARGETS rasure_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

set(link_flags)
set(link_items)
foreach(name IN LISTS RASURE_LINK_NAMES)
    string(APPEND link_flags " -l${name}")
    if(name IN_LIST RASURE_BUNDLED_NAMES)
        list(APPEND link_items
            \${PACKAGE_PREFIX_DIR}/${bundle}/${CMAKE_STATIC_LIBRARY_PREFIX}${name}${CMAKE_STATIC_LIBRARY_SUFFIX})
    else()
        list(APPEND link_items ${lib_${name}})
    endif()
endforeach()

set(pc_requires)
if(RASURE_PCRE2_INSTALLED)
    set(pc_requires libpcre2-8)
endif()

configure_package_config_file(cmake/rasureConfig.cmake.in ${PROJECT_BINARY_DIR}/rasureConfig.cmake
    INSTALL_DESTINATION ${package})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/rasureConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/rasureConfig.cmake ${PROJECT_BINARY_DIR}/rasureConfigVersion.cmake DESTINATION ${package})
install(EXPORT rasureTargets NAMESPACE rasure:: DESTINATION ${package})

file(RELATIVE_PATH to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" to_prefix ${to_prefix})
configure_file(cmake/rasure.pc.in ${PROJECT_BINARY_DIR}/rasure.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/rasure.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
