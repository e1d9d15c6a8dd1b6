#!/bin/busybox sh
# First program of every guest: load what the root file system needs, mount it over 9p, and go on there.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for module in $(cat /modules.order); do
    insmod "/modules/$module" || echo "lab: $module could not be loaded"
done
options=trans=virtio,version=9p2000.L,msize=262144
mount -t 9p -o "$options,ro,cache=loose" root /sysroot || exec sh
mount -t proc proc /sysroot/proc
mount -t sysfs sys /sysroot/sys
mount -t devtmpfs dev /sysroot/dev
mount -t tmpfs tmp /sysroot/tmp
mount -t tmpfs run /sysroot/run
mount -t tmpfs var /sysroot/var
mount -t 9p -o "$options,ro,cache=loose" modules /sysroot/usr/lib/modules
mount -t 9p -o "$options,ro,cache=loose" project /sysroot/project
mount -t 9p -o "$options,rw,cache=none" share /sysroot/share
umount /proc
exec switch_root /sysroot /bin/sh /project/tests/qemu/agent.sh </dev/console >/dev/console 2>&1
