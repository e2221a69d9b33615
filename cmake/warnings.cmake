# Compile options of our own code.
add_library(rasure_warnings INTERFACE)
target_compile_options(rasure_warnings INTERFACE
    -Wall -Wextra -Wconversion -Wundef -Werror=vla
    $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>
    -fvisibility=hidden
    # Nothing here reads errno or floating-point traps, and both stand in the way of vector code.
    -fno-math-errno -fno-trapping-math
    # A product and a sum are two roundings unless a kernel says otherwise, whatever the compiler: levels and references have
    # the same bits. GCC's default in C11, not clang's.
    -ffp-contract=off)
