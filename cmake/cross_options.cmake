# How scripts/setup.sh builds what Debian's packages provide natively (cmake -C), but for PCRE2.

set(JANSSON_BUILD_DOCS OFF CACHE BOOL "")
set(JANSSON_EXAMPLES OFF CACHE BOOL "")
set(JANSSON_WITHOUT_TESTS ON CACHE BOOL "")

set(WITH_STATIC_LIB ON CACHE BOOL "")
set(WITH_EXAMPLES OFF CACHE BOOL "")
