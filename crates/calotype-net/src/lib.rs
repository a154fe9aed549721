//! The virtual network: Ethernet frames of guests in, host sockets out, with DHCP and the metadata service.
