"""A bzImage by hand: a setup header as Linux 6.1 has it, and for a kernel a few instructions.
[LINUX-BOOT] "The Real-Mode Kernel Header"
"""

SECTOR = 512
ENTRY64 = 0x200  # in the payload
# xor eax, eax; out 0xf4, al; hlt; jmp back: in 32-bit and in 64-bit mode
REPORT_SUCCESS = bytes.fromhex("31c0 e6f4 f4 ebfd".replace(" ", ""))

# name: (offset, bytes, value)
FIELDS = {
    "setup_sects": (0x1f1, 1, 1),
    "root_flags": (0x1f2, 2, 1),
    "syssize": (0x1f4, 4, 64),
    "ram_size": (0x1f8, 2, 0),
    "vid_mode": (0x1fa, 2, 0xffff),
    "root_dev": (0x1fc, 2, 0),
    "boot_flag": (0x1fe, 2, 0xaa55),
    "jump": (0x200, 2, 0x66eb),
    "header": (0x202, 4, 0x53726448),
    "version": (0x206, 2, 0x020f),
    "realmode_swtch": (0x208, 4, 0),
    "start_sys_seg": (0x20c, 2, 0x1000),
    "kernel_version": (0x20e, 2, 0x100),
    "type_of_loader": (0x210, 1, 0),
    "loadflags": (0x211, 1, 1),
    "setup_move_size": (0x212, 2, 0x8000),
    "code32_start": (0x214, 4, 0x100000),
    "ramdisk_image": (0x218, 4, 0),
    "ramdisk_size": (0x21c, 4, 0),
    "bootsect_kludge": (0x220, 4, 0),
    "heap_end_ptr": (0x224, 2, 0x5320),
    "ext_loader_ver": (0x226, 1, 0),
    "ext_loader_type": (0x227, 1, 0),
    "cmd_line_ptr": (0x228, 4, 0),
    "initrd_addr_max": (0x22c, 4, 0x7fffffff),
    "kernel_alignment": (0x230, 4, 0x200000),
    "relocatable_kernel": (0x234, 1, 1),
    "min_alignment": (0x235, 1, 21),
    "xloadflags": (0x236, 2, 0x3f),
    "cmdline_size": (0x238, 4, 2047),
    "hardware_subarch": (0x23c, 4, 0),
    "hardware_subarch_data": (0x240, 8, 0),
    "payload_offset": (0x248, 4, 0),
    "payload_length": (0x24c, 4, 0),
    "setup_data": (0x250, 8, 0),
    "pref_address": (0x258, 8, 0x1000000),
    "init_size": (0x260, 4, 0x200000),
    "handover_offset": (0x264, 4, 0),
    "kernel_info_offset": (0x268, 4, 0),
}


def put(image, name, value):
    offset, size, _ = FIELDS[name]
    image[offset:offset + size] = (value % (1 << 8 * size)).to_bytes(size, "little")


def make(payload=None, **fields):
    """The image; `fields` replace those above. `payload`: instead of REPORT_SUCCESS at both entries."""
    image = bytearray(2 * SECTOR)
    for name, (_, _, value) in FIELDS.items():
        put(image, name, fields.get(name, value))
    image[0x300:0x308] = b"6.1-test"
    if payload is None:
        payload = bytearray(FIELDS["syssize"][2] * 16)
        for entry in (0, ENTRY64):
            payload[entry:entry + len(REPORT_SUCCESS)] = REPORT_SUCCESS
    return bytes(image) + bytes(payload)
