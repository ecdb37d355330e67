# The Rust text library (tokenizers, minijinja) behind a C ABI: data/hf_text. Cargo decides what is out of date.
execute_process(COMMAND "${CMAKE_SOURCE_DIR}/scripts/find_cargo.sh" OUTPUT_VARIABLE cargo
  OUTPUT_STRIP_TRAILING_WHITESPACE)
if(NOT cargo)
  message(FATAL_ERROR "no cargo that is new enough for data/hf_text: run scripts/setup.sh")
endif()
# Its own compiler, not an older one that comes first on PATH.
cmake_path(GET cargo PARENT_PATH rust_bin)
set(hf_text_dir "${CMAKE_BINARY_DIR}/hf_text")
set(hf_text_library "${hf_text_dir}/release/libhf_text.so")
file(GLOB_RECURSE hf_text_sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/data/hf_text/src/*.rs"
  "${CMAKE_SOURCE_DIR}/data/hf_text/Cargo.*")
add_custom_command(OUTPUT "${hf_text_library}"
  COMMAND ${CMAKE_COMMAND} -E env --modify "PATH=path_list_prepend:${rust_bin}" "${cargo}" build --release --locked
          --quiet --manifest-path "${CMAKE_SOURCE_DIR}/data/hf_text/Cargo.toml" --target-dir "${hf_text_dir}"
  DEPENDS ${hf_text_sources} COMMENT "Rust text library" VERBATIM USES_TERMINAL)
add_custom_target(hf_text_build DEPENDS "${hf_text_library}")

add_library(hf_text INTERFACE)
add_dependencies(hf_text hf_text_build)
target_link_libraries(hf_text INTERFACE "${hf_text_library}")
target_link_options(hf_text INTERFACE "-Wl,-rpath,${hf_text_dir}/release")
