# Compiler and linker flags, in one place.

# Contraction is off everywhere: a multiply-add is written where it is meant, so results are the same on every compiler.
# Nothing reads errno after a call into libm.
set(FONIO_FLAGS -ffp-contract=off -fno-math-errno)

set(FONIO_WARNINGS_PROGRAM -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wundef -Wvla)
set(FONIO_WARNINGS_LIBRARY ${FONIO_WARNINGS_PROGRAM} -Wmissing-prototypes -Wconversion)
# Kernels do arithmetic on vector types and small integers all the time: -Wconversion would drown them in casts. GNU vector
# extensions are no matter for -Wpedantic. -Wpsabi would warn that a vector argument's ABI depends on the instruction set:
# no vector ever crosses from one file to another.
set(FONIO_WARNINGS_KERNEL ${FONIO_WARNINGS_PROGRAM} -Wmissing-prototypes -Wno-psabi)

# Kernels see pointers that were checked before and write no text: they do without.
set(FONIO_HARDENING -fstack-protector-strong)
if(NOT FONIO_SANITIZE)
  list(APPEND FONIO_HARDENING $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE> $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2>)
endif()

# The compiler's own habit is to keep to 256 bits on either; both are said so that the choice is seen.
set(FONIO_ISA_FLAGS_avx2 -mavx2 -mfma -mf16c -mprefer-vector-width=256)
# FONIO_EMULATE_AVX512 builds AVX-512's kernels out of AVX2, to test their shapes where there is no AVX-512.
set(FONIO_ISA_FLAGS_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c -mprefer-vector-width=512)
if(FONIO_EMULATE_AVX512)
  set(FONIO_ISA_FLAGS_avx512 ${FONIO_ISA_FLAGS_avx2})
endif()
# scalar and neon are the platform's baseline: no flag.

# What every target of ours is compiled with.
function(fonio_compile target)
  set_target_properties(${target} PROPERTIES
    C_STANDARD 17 C_STANDARD_REQUIRED ON C_EXTENSIONS ON C_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON)
  # Paths in messages and debug data start at the project, whatever folder it was built in.
  target_compile_options(${target} PRIVATE ${FONIO_FLAGS} -ffile-prefix-map=${PROJECT_SOURCE_DIR}/=)
  if(FONIO_SANITIZE)
    # -O1 keeps sanitized kernels quick enough to test; nothing goes on after a finding.
    target_compile_options(${target} PRIVATE
      -fsanitize=${FONIO_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1)
    target_link_options(${target} PUBLIC -fsanitize=${FONIO_SANITIZE})
  endif()
endfunction()

function(fonio_warnings target)
  target_compile_options(${target} PRIVATE ${ARGN} $<$<BOOL:${FONIO_WERROR}>:-Werror>)
endfunction()

# Pointers in tables (to kernels, to texts) are moved when the library is loaded: a bit each instead of 24 bytes, where the
# linker and the C library that it is built on know how (glibc from 2.36 on).
include(CheckCSourceRuns)
if(NOT CMAKE_CROSSCOMPILING AND NOT FONIO_SANITIZE)
  set(CMAKE_REQUIRED_LINK_OPTIONS -pie -Wl,-z,pack-relative-relocs)
  set(CMAKE_REQUIRED_FLAGS -fPIE)
  check_c_source_runs("static const char *volatile const words[] = {\"a\", \"b\"}; int main(void) { return words[1][0] != 'b'; }"
    FONIO_PACKS_RELOCATIONS)
  unset(CMAKE_REQUIRED_LINK_OPTIONS)
  unset(CMAKE_REQUIRED_FLAGS)
endif()

# What every shared library of ours is linked with: it exports fonio_* and nothing else, and lacks nothing. Its own calls of
# what it exports stay its own, without a way through a table.
function(fonio_shared target)
  set_target_properties(${target} PROPERTIES
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/fonio.map)
  target_link_options(${target} PRIVATE
    -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/fonio.map -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed
    -Wl,-Bsymbolic-functions $<$<BOOL:${FONIO_PACKS_RELOCATIONS}>:-Wl,-z,pack-relative-relocs>
    -Wl,-z,noseparate-code) # no padding to whole pages between what is read and what is run
  if(FONIO_SANITIZE)
    target_link_options(${target} PRIVATE -fsanitize=${FONIO_SANITIZE})
  else()
    target_link_options(${target} PRIVATE -Wl,-z,defs)
  endif()
endfunction()
