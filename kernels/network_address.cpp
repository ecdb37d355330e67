#include "kernels/network_address.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>

#include "common/error.h"

namespace aerie {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Addresses resolve(const RankPlace& place) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_DGRAM;
  const std::string port = std::to_string(place.port);
  const int error = getaddrinfo(place.master.c_str(), port.c_str(), &hints, &found);
  AERIE_CHECK(error == 0, "MASTER_ADDR {} has no address: {}", place.master, gai_strerror(error));
  return {found, freeaddrinfo};
}

/// The source address of a datagram socket that is connected there; nothing is sent. "" if there is
/// no way there.
std::string source_towards(const addrinfo& address) {
  const int descriptor = ::socket(address.ai_family, SOCK_DGRAM, 0);
  if (descriptor < 0) return "";
  sockaddr_storage own{};
  socklen_t size = sizeof own;
  auto* generic = reinterpret_cast<sockaddr*>(&own);
  const bool found = ::connect(descriptor, address.ai_addr, address.ai_addrlen) == 0 &&
                     ::getsockname(descriptor, generic, &size) == 0;
  ::close(descriptor);
  char text[NI_MAXHOST] = "";
  if (found) ::getnameinfo(generic, size, text, sizeof text, nullptr, 0, NI_NUMERICHOST);
  return text;
}

bool is_loopback(const std::string& address) {
  return address.starts_with("127.") || address == "::1";
}

}  // namespace

std::string own_address(const RankPlace& place) {
  const Addresses addresses = resolve(place);
  for (const addrinfo* address = addresses.get(); address; address = address->ai_next) {
    const std::string own = source_towards(*address);
    if (own.empty()) continue;
    AERIE_CHECK(place.local_ranks == place.ranks || !is_loopback(own),
                "MASTER_ADDR {} is {} on this machine, which other machines cannot reach: give an "
                "address of its network, or name the interface in GLOO_SOCKET_IFNAME",
                place.master, own);
    return own;
  }
  fail("no network leads to MASTER_ADDR {}", place.master);
}

}  // namespace aerie
