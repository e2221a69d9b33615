# 64-bit Arm Linux with Debian's cross compiler.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)

set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static)

# Static programs need nothing beside them: under qemu, on a board, on a phone.
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)

# The libraries that setup.sh builds come first (cmake/third_party.cmake); Debian's own for this machine, if any, next.
# Without this pkg-config answers for the machine that builds.
if(NOT DEFINED ENV{PKG_CONFIG_LIBDIR})
    set(ENV{PKG_CONFIG_LIBDIR} /usr/lib/aarch64-linux-gnu/pkgconfig)
endif()
