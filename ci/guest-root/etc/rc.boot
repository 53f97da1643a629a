#!/bin/sh
# Mounts and drivers; then init starts the shell on the console.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
hostname vmm-guest
modules="button evdev pvpanic pvpanic-mmio pvpanic-pci"
# Disks, network cards, random bytes and shared directories, where there are any: PCI devices of virtio.
if grep -qs 0x1af4 /sys/bus/pci/devices/*/vendor; then
  modules="$modules virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk"
  modules="$modules crc16 mbcache jbd2 crc32c_generic ext4 failover net_failover virtio_net rng-core virtio-rng fuse virtiofs"
  modules="$modules virtio_console"
fi
for module in $modules; do
  file=/lib/modules/$(uname -r)/$module.ko
  [ ! -e "$file" ] || insmod "$file" 2>/dev/null
done
# The power button: acpid hears it from the kernel and runs /etc/acpi/PWRF/00000080.
[ ! -d /dev/input ] || acpid -l /dev/null -p /run/acpid.pid
echo "vmm-init: $(uname -sr), $(nproc) CPU, $(awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo) MiB"
