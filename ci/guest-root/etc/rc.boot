#!/bin/sh
# Mounts and drivers; then init starts the shell on the console.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
hostname vmm-guest
for module in button evdev pvpanic pvpanic-mmio pvpanic-pci; do
  file=/lib/modules/$(uname -r)/$module.ko
  [ ! -e "$file" ] || insmod "$file" 2>/dev/null
done
# The power button: acpid hears it from the kernel and runs /etc/acpi/PWRF/00000080.
[ ! -d /dev/input ] || acpid -l /dev/null -p /run/acpid.pid
echo "vmm-init: $(uname -sr), $(nproc) CPU, $(awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo) MiB"
