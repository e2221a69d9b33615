# 64-bit Arm Linux with clang, the compiler of phones' SDKs, over the headers and libraries of Debian's cross compiler. Up to
# its first dot the name is that of aarch64-linux-gnu.cmake: the third-party libraries are the same.
include(${CMAKE_CURRENT_LIST_DIR}/aarch64-linux-gnu.cmake)
set(CMAKE_C_COMPILER clang)
set(CMAKE_C_COMPILER_TARGET aarch64-linux-gnu)
