# 32-bit Arm Linux (ARMv7-A, hard float) with Debian's cross compiler.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR armv7)

set(CMAKE_C_COMPILER arm-linux-gnueabihf-gcc)
set(CMAKE_CXX_COMPILER arm-linux-gnueabihf-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-arm-static)

# Static programs need nothing beside them: under qemu, on a board, on a phone.
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)

# The libraries that setup.sh builds come first (cmake/third_party.cmake); Debian's own for this machine, if any, next.
# Without this pkg-config answers for the machine that builds.
if(NOT DEFINED ENV{PKG_CONFIG_LIBDIR})
    set(ENV{PKG_CONFIG_LIBDIR} /usr/lib/arm-linux-gnueabihf/pkgconfig)
endif()
