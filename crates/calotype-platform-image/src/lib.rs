//! Builds bootable platform images from Debian packages.
