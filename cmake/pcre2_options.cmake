# How PCRE2 is built, by scripts/setup.sh for cross builds (cmake -C) and by cmake/third_party.cmake (include).

set(PCRE2_SUPPORT_JIT ON CACHE BOOL "As in Debian's")
set(PCRE2_BUILD_PCRE2GREP OFF CACHE BOOL "")
set(PCRE2_BUILD_TESTS OFF CACHE BOOL "")
set(PCRE2_SHOW_REPORT OFF CACHE BOOL "")
