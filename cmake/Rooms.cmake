# How every room is compiled: warnings are errors, one precompiled header, ccache, mold.
find_program(CCACHE ccache)
if(CCACHE)
  # ccache keeps precompiled headers only with these sloppiness settings.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros
    CCACHE_PCH_EXTSUM=true ${CCACHE})
endif()
find_program(MOLD mold)
if(MOLD)
  add_link_options(-fuse-ld=mold)
endif()

if(AERIE_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()

# -O3 is for the kernels; elsewhere it costs compile time and gives nothing.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

add_library(aerie_options INTERFACE)
# -fPIC for programs too: one precompiled header serves all only where all are compiled alike.
target_compile_options(aerie_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-fPIC -Wall -Wextra -Wshadow -Werror -fpch-preprocess>)
target_include_directories(aerie_options INTERFACE "${CMAKE_SOURCE_DIR}")
target_link_libraries(aerie_options INTERFACE torch::cpu fmt::fmt)
# LibTorch's include folder carries a newer fmt, which must not hide the one that we link.
find_path(AERIE_FMT_INCLUDE fmt/format.h PATHS /usr/include NO_DEFAULT_PATH REQUIRED)
file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/include")
file(CREATE_LINK "${AERIE_FMT_INCLUDE}/fmt" "${CMAKE_BINARY_DIR}/include/fmt" SYMBOLIC)
target_include_directories(aerie_options BEFORE INTERFACE "${CMAKE_BINARY_DIR}/include")

# aerie_precompiled_header(TARGET HEADER INCLUDED...): a target for a precompiled header that others reuse. For ccache a
# checksum beside it stands for it: its own bytes differ from build to build, and nothing would ever be found again.
function(aerie_precompiled_header target header)
  add_library(${target} OBJECT "${CMAKE_SOURCE_DIR}/cmake/pch.cpp")
  target_link_libraries(${target} PUBLIC aerie_options)
  target_precompile_headers(${target} PRIVATE "${header}")
  set(sums "")
  foreach(file "${header}" ${ARGN})
    file(SHA256 "${file}" sum)
    string(APPEND sums "${sum} ")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${file}")
  endforeach()
  file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/${target}.dir/cmake_pch.hxx.gch.sum"
    "${sums}${CMAKE_CXX_COMPILER_VERSION} ${CMAKE_BUILD_TYPE} ${AERIE_SANITIZE}\n")
endfunction()
aerie_precompiled_header(aerie_pch "${CMAKE_SOURCE_DIR}/cmake/pch.h")

function(aerie_compile_options target)
  target_link_libraries(${target} PUBLIC aerie_options)
  target_precompile_headers(${target} REUSE_FROM aerie_pch)
endfunction()

# aerie_room(NAME LIBRARIES...): a static library of the folder's sources. Files in NAME/cpu/ that end in
# _avx2.cpp, _avx512.cpp or _amx.cpp are compiled for those instructions, without the precompiled header, and are called
# only after the run-time check.
function(aerie_room name)
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/${name}/*.cpp" "${CMAKE_SOURCE_DIR}/${name}/cpu/*.cpp")
  if(NOT sources)
    add_library(aerie_${name} INTERFACE)  # a room of headers only
    target_link_libraries(aerie_${name} INTERFACE aerie_options ${ARGN})
    return()
  endif()
  add_library(aerie_${name} STATIC ${sources})
  aerie_compile_options(aerie_${name})
  target_link_libraries(aerie_${name} PUBLIC ${ARGN})
  set(gcc_bug -Wno-uninitialized -Wno-maybe-uninitialized)  # GCC 12's own AVX-512 header (bug 105593)
  foreach(source ${sources})
    if(source MATCHES "_amx\\.cpp$")
      set_source_files_properties(${source} PROPERTIES SKIP_PRECOMPILE_HEADERS ON COMPILE_OPTIONS
        "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512bf16;-mfma;-mamx-tile;-mamx-bf16;-O3;${gcc_bug}")
    elseif(source MATCHES "_avx512\\.cpp$")
      set_source_files_properties(${source} PROPERTIES SKIP_PRECOMPILE_HEADERS ON COMPILE_OPTIONS
        "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512bf16;-mfma;-O3;${gcc_bug}")
    elseif(source MATCHES "_avx2\\.cpp$")
      set_source_files_properties(${source} PROPERTIES SKIP_PRECOMPILE_HEADERS ON COMPILE_OPTIONS "-mavx2;-mfma;-O3")
    elseif(source MATCHES "_portable\\.cpp$|/isa\\.cpp$")
      # The same loops once more, under the same names; and what tests of emulated tiles put their own in place of:
      # never in one batch with others.
      set_source_files_properties(${source} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    endif()
  endforeach()
endfunction()
