#!/usr/bin/env bash
# Installs what the build needs: Debian packages, Rust, the wheels in .venv (LibTorch, the CUDA compiler, the Python
# side of conversion and tests). Safe to run again; a second run finds everything in place and takes a second.
# usage: scripts/setup.sh
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/versions.env

say() { printf '\033[1m[setup]\033[0m %s\n' "$*"; }
die() { printf '[setup] %s\n' "$*" >&2; exit 1; }

debian_packages=(
  build-essential cmake ninja-build ccache mold pkg-config git clang-format python3 python3-venv
  ca-certificates iproute2 libhdf5-dev zlib1g-dev libzstd-dev libyaml-cpp-dev libspdlog-dev libfmt-dev libgtest-dev libgmock-dev nlohmann-json3-dev libsimdjson-dev libcli11-dev
  libcpp-httplib-dev libgloo-dev libsndfile1-dev libsoxr-dev libturbojpeg0-dev libspng-dev
  espeak-ng
)

# install_packages NAME...: those of them that are missing
install_packages() {
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then return; fi
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "missing Debian packages, and neither root nor sudo here. As root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "Debian packages: installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# A good cargo that is already here is kept, rustup's too. Debian's plain cargo is too old; cargo-web, the one that
# Debian builds browsers with, is not.
install_rust() {
  scripts/find_cargo.sh >/dev/null || install_packages cargo-web rustc-web
  local cargo
  cargo=$(scripts/find_cargo.sh) ||
    die "the tokenizer library needs cargo $CARGO_MINIMUM or newer, and cargo-web of this Debian is older. Install Rust with rustup, then run this again."
  say "Rust: $("$cargo" --version | cut -d ' ' -f 1-2) ($cargo)"
}

install_wheels() {
  local stamp=.venv/aerie-wheels wanted
  local wheels=(
    "torch==$TORCH_VERSION"
    "nvidia-cuda-nvcc==$CUDA_NVCC_VERSION" "nvidia-cuda-crt==$CUDA_NVCC_VERSION" "nvidia-nvvm==$CUDA_NVCC_VERSION"
    "nvidia-cuda-cccl==$CUDA_CCCL_VERSION" "nvidia-cuda-culibos==$CUDA_CULIBOS_VERSION"
    "transformers==$TRANSFORMERS_VERSION" "gguf==$GGUF_VERSION" "accelerate==$ACCELERATE_VERSION"
    "safetensors==$SAFETENSORS_VERSION" "numpy==$NUMPY_VERSION" "h5py==$H5PY_VERSION" "pillow==$PILLOW_VERSION" "torchvision==$TORCHVISION_VERSION"
    "clang-tidy==$CLANG_TIDY_VERSION" "openai==$OPENAI_VERSION" "tensorboard==$TENSORBOARD_VERSION"
  )
  wanted=$(printf '%s\n' "${wheels[@]}")
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then say "wheels: all there"; return; fi
  say "wheels: installing into .venv (about 5 GB, some minutes)"
  [ -x .venv/bin/python ] || python3 -m venv .venv
  .venv/bin/python -m pip install -q --disable-pip-version-check "${wheels[@]}"
  printf '%s\n' "$wanted" > "$stamp"
}

# CMake looks for two names that the CUDA wheels do not have.
complete_cuda_tree() {
  local cuda
  cuda=$(echo .venv/lib/python3*/site-packages/nvidia/cu13)
  [ -e "$cuda/lib64" ] || ln -s lib "$cuda/lib64"
  [ -e "$cuda/lib/libcudart.so" ] || ln -s libcudart.so.13 "$cuda/lib/libcudart.so"
  say "CUDA compiler: $cuda/bin/nvcc"
}

install_packages "${debian_packages[@]}"
say "Debian packages: all there"
install_rust
install_wheels
complete_cuda_tree
say "done"
