# Defines rasure::pthreadpool, rasure::cpuinfo, rasure::xnnpack (with RASURE_XNNPACK) and rasure::pcre2, and lists what the
# library links in RASURE_DEPENDENCIES. XNNPACK and its two come from the first of these that there is:
#
#   1. RASURE_THIRD_PARTY_DIR, a prefix as scripts/setup.sh builds it; where setup.sh left one for this machine, or for the
#      toolchain file, that is the default. What it has for pkg-config is preferred: a cross build's PCRE2, Jansson and cmocka;
#   2. installed copies, when they are new enough;
#   3. the pinned archives, downloaded from GitHub and built along with rasure. FETCHCONTENT_SOURCE_DIR_<NAME> (XNNPACK,
#      PTHREADPOOL, CPUINFO, FXDIV) puts a local source in the place of one; setting any skips the default of 1, and 2.
#
# All three come from the same place: two pthreadpools in one process are a fault that shows late. PCRE2 is that of pkg-config,
# or else an archive, too (FETCHCONTENT_SOURCE_DIR_PCRE2). In a cross build pkg-config is only asked where it is said to know
# that machine, by a prefix or by PKG_CONFIG_LIBDIR.
#
# For install.cmake: RASURE_LINK_NAMES is how a linker calls the libraries; RASURE_BUNDLED_NAMES are those to install beside
# librasure.a, RASURE_BUNDLED_LIBS their files and RASURE_BUNDLED_LICENSES their licences; RASURE_PCRE2_INSTALLED: PCRE2 is
# pkg-config's.

set(RASURE_THIRD_PARTY_DIR "" CACHE PATH "Prefix with pthreadpool, cpuinfo and XNNPACK as static libraries")

find_package(Threads REQUIRED)
find_package(PkgConfig)

set(RASURE_DEPENDENCIES rasure::pthreadpool rasure::cpuinfo rasure::pcre2 m)
set(RASURE_LINK_NAMES pthreadpool cpuinfo)
if(RASURE_XNNPACK)
    list(PREPEND RASURE_DEPENDENCIES rasure::xnnpack)
    list(PREPEND RASURE_LINK_NAMES XNNPACK microkernels-prod)
endif()
set(RASURE_BUNDLED_NAMES)
set(RASURE_BUNDLED_LIBS)
set(RASURE_BUNDLED_LICENSES)

# Sets lib_<link name> to the found library, and `installed` when all are there and new enough.
function(rasure_find_installed)
    find_path(RASURE_THIRD_PARTY_INCLUDE pthreadpool.h)
    set(libs)
    foreach(name IN LISTS RASURE_LINK_NAMES)
        find_library(RASURE_LIB_${name} NAMES ${name} xnnpack-${name})
        if(RASURE_LIB_${name})
            list(APPEND libs ${RASURE_LIB_${name}})
        elseif(NOT name STREQUAL "microkernels-prod") # a shared XNNPACK has them inside
            return()
        endif()
    endforeach()
    # These libraries state no version: the youngest functions that rasure calls stand for one.
    set(probe "cpuinfo_has_x86_amx_int8() + !pthreadpool_create(1)")
    set(headers "#include <cpuinfo.h>\n#include <pthreadpool.h>\n")
    if(RASURE_XNNPACK)
        string(APPEND headers "#include <xnnpack.h>\n")
        string(APPEND probe " + !xnn_reshape_fully_connected_nc_qd8_f32_qc8w")
    endif()
    include(CheckCSourceCompiles)
    set(CMAKE_REQUIRED_INCLUDES ${RASURE_THIRD_PARTY_INCLUDE})
    set(CMAKE_REQUIRED_LIBRARIES ${libs} Threads::Threads m)
    check_c_source_compiles("${headers}int main(void) { return ${probe}; }" RASURE_INSTALLED_NEW_ENOUGH)
    if(RASURE_INSTALLED_NEW_ENOUGH)
        set(installed ON PARENT_SCOPE)
    endif()
endfunction()

set(prefix "${RASURE_THIRD_PARTY_DIR}")
set(installed OFF)
set(local "${FETCHCONTENT_SOURCE_DIR_XNNPACK}${FETCHCONTENT_SOURCE_DIR_PTHREADPOOL}${FETCHCONTENT_SOURCE_DIR_CPUINFO}")
if(prefix STREQUAL "" AND local STREQUAL "")
    set(cache $ENV{XDG_CACHE_HOME})
    if(NOT cache)
        set(cache $ENV{HOME}/.cache)
    endif()
    set(default ${cache}/rasure/third_party)
    if(CMAKE_CROSSCOMPILING)
        get_filename_component(target "${CMAKE_TOOLCHAIN_FILE}" NAME_WE)
        string(APPEND default -${target})
    endif()
    if(EXISTS ${default})
        set(prefix ${default})
    else()
        rasure_find_installed()
    endif()
endif()

if(EXISTS ${prefix}/lib/pkgconfig)
    set(ENV{PKG_CONFIG_PATH} ${prefix}/lib/pkgconfig:$ENV{PKG_CONFIG_PATH})
endif()
set(RASURE_PCRE2_INSTALLED OFF)
if(PKG_CONFIG_FOUND AND NOT FETCHCONTENT_SOURCE_DIR_PCRE2
        AND (NOT CMAKE_CROSSCOMPILING OR prefix OR DEFINED ENV{PKG_CONFIG_LIBDIR}))
    pkg_check_modules(PCRE2 QUIET IMPORTED_TARGET libpcre2-8)
    set(RASURE_PCRE2_INSTALLED ${PCRE2_FOUND})
endif()

include(FetchContent)
if(POLICY CMP0135)
    cmake_policy(SET CMP0135 NEW)
endif()

# Adds the project of a pinned archive, and its licence to those to install.
macro(rasure_fetch name)
    file(STRINGS ${CMAKE_CURRENT_LIST_DIR}/third_party.txt pin REGEX "^${name} .*https:" LIMIT_COUNT 1)
    string(REGEX REPLACE " +" ";" pin "${pin}")
    list(GET pin 2 url)
    list(GET pin 3 hash)
    # The sub-directory that is not there keeps FetchContent from adding the project, and its install rules, itself.
    FetchContent_Declare(${name} URL ${url} URL_HASH ${hash} SOURCE_SUBDIR added-below)
    FetchContent_MakeAvailable(${name})
    # Where the projects look for each other.
    string(TOUPPER ${name} upper)
    set(${upper}_SOURCE_DIR ${${name}_SOURCE_DIR})
    if(NOT ${name} STREQUAL "fxdiv") # pthreadpool adds it
        add_subdirectory(${${name}_SOURCE_DIR} ${${name}_BINARY_DIR} EXCLUDE_FROM_ALL)
    endif()
    file(GLOB license ${${name}_SOURCE_DIR}/LICEN[CS]E)
    configure_file(${license} ${PROJECT_BINARY_DIR}/licenses/${name} COPYONLY)
    list(APPEND RASURE_BUNDLED_LICENSES ${PROJECT_BINARY_DIR}/licenses/${name})
endmacro()

set(third_party_include)
if(prefix)
    message(STATUS "XNNPACK and its libraries: ${prefix}")
    set(third_party_include ${prefix}/include)
    foreach(name IN LISTS RASURE_LINK_NAMES)
        set(lib_${name} ${prefix}/lib/${CMAKE_STATIC_LIBRARY_PREFIX}${name}${CMAKE_STATIC_LIBRARY_SUFFIX})
        if(NOT EXISTS ${lib_${name}})
            message(FATAL_ERROR "${lib_${name}} is not there; scripts/setup.sh makes such a prefix.")
        endif()
        list(APPEND RASURE_BUNDLED_LIBS ${lib_${name}})
    endforeach()
    file(GLOB RASURE_BUNDLED_LICENSES ${prefix}/licenses/*)
elseif(installed)
    message(STATUS "XNNPACK and its libraries: installed, ${RASURE_LIB_pthreadpool}")
    set(third_party_include ${RASURE_THIRD_PARTY_INCLUDE})
    foreach(name IN LISTS RASURE_LINK_NAMES)
        set(lib_${name} ${RASURE_LIB_${name}})
    endforeach()
else()
    message(STATUS "XNNPACK and its libraries: built from source (scripts/setup.sh would do so once for all trees)")
    enable_language(CXX) # XNNPACK has some
    include(${CMAKE_CURRENT_LIST_DIR}/third_party_options.cmake)
    set(names fxdiv pthreadpool cpuinfo)
    if(RASURE_XNNPACK)
        list(APPEND names xnnpack)
    endif()
    foreach(name IN LISTS names)
        rasure_fetch(${name})
        list(APPEND third_party_include ${${name}_SOURCE_DIR}/include)
    endforeach()
    foreach(name IN LISTS RASURE_LINK_NAMES)
        set(lib_${name} ${name})
        list(APPEND RASURE_BUNDLED_LIBS $<TARGET_FILE:${name}>)
    endforeach()
endif()
if(NOT installed)
    set(RASURE_BUNDLED_NAMES ${RASURE_LINK_NAMES})
endif()

if(RASURE_PCRE2_INSTALLED)
    set(lib_pcre2 PkgConfig::PCRE2)
else()
    message(STATUS "PCRE2: built from source")
    if(IOS) # which runs no code that a program makes
        set(PCRE2_SUPPORT_JIT OFF CACHE BOOL "")
    endif()
    include(${CMAKE_CURRENT_LIST_DIR}/pcre2_options.cmake)
    rasure_fetch(pcre2)
    list(APPEND third_party_include ${pcre2_BINARY_DIR})
    set(lib_pcre2 pcre2-8)
    list(APPEND RASURE_LINK_NAMES pcre2-8)
    list(APPEND RASURE_BUNDLED_NAMES pcre2-8)
    list(APPEND RASURE_BUNDLED_LIBS $<TARGET_FILE:pcre2-8>)
endif()

# Imported, whatever they stand for: install(EXPORT) then leaves them to rasureConfig.cmake.
function(rasure_third_party name)
    add_library(rasure::${name} INTERFACE IMPORTED GLOBAL)
    target_include_directories(rasure::${name} INTERFACE ${third_party_include})
    target_link_libraries(rasure::${name} INTERFACE ${ARGN})
endfunction()

rasure_third_party(pthreadpool ${lib_pthreadpool} Threads::Threads)
rasure_third_party(cpuinfo ${lib_cpuinfo} Threads::Threads)
rasure_third_party(pcre2 ${lib_pcre2})
if(RASURE_XNNPACK)
    rasure_third_party(xnnpack ${lib_XNNPACK} ${lib_microkernels-prod} rasure::pthreadpool rasure::cpuinfo m)
endif()
