# RASURE_ARCHITECTURE: x86_64, aarch64, armv7, or other, for which there are portable kernels only. It is what the compiler makes
# code for: the name of the processor differs from system to system, and is not asked for where flags say another one (-m32,
# CMAKE_OSX_ARCHITECTURES).
include(CheckCSourceCompiles)

function(rasure_find_architecture)
    set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY) # nothing to link, which a phone's SDK may want to sign
    set(conditions
        x86_64 "defined(__x86_64__)"
        aarch64 "defined(__aarch64__)"
        armv7 "defined(__arm__) && __ARM_ARCH >= 7")
    while(conditions)
        list(POP_FRONT conditions name condition)
        check_c_source_compiles("#if !(${condition})\n#error another\n#endif\nint rasure;" RASURE_IS_${name})
        if(RASURE_IS_${name})
            set(RASURE_ARCHITECTURE ${name} PARENT_SCOPE)
            return()
        endif()
    endwhile()
    message(WARNING "rasure has portable kernels only for this processor, or for several in one file: build for one at a time")
    set(RASURE_ARCHITECTURE other PARENT_SCOPE)
endfunction()

rasure_find_architecture()
