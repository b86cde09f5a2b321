#!/usr/bin/env bash
# Builds a host's own view of the file system and keeps it: run inside a fresh mount namespace.
#
#   root.sh --new-root DIR --passwd FILE [--bind SOURCE PLACE]...    prints the number of the process that keeps it
#
# The machine's system folders show through; /dls, /home, /mnt, /root and /run are the host's own. Nothing is
# written outside --new-root, and the machine itself sees none of these mounts.
set -euo pipefail
# An ordinary user's path does not lead to pivot_root.
PATH=$PATH:/usr/sbin:/sbin

new_root='' passwd=''
sources=() places=()
while [ $# -gt 0 ]; do
  case $1 in
    --new-root) new_root=$2; shift 2 ;;
    --passwd) passwd=$2; shift 2 ;;
    --bind) sources+=("$2"); places+=("$3"); shift 3 ;;
    *) echo "root.sh: unknown word $1" >&2; exit 78 ;;
  esac
done

mount -t tmpfs -o mode=0755 tmpfs "$new_root"
shopt -s dotglob nullglob
for entry in /*; do
  name=${entry#/}
  case $name in
    dls | home | lab | mnt | root | run | lost+found | .old_root) continue ;;
  esac
  if [ -L "$entry" ]; then
    cp -P -- "$entry" "$new_root/$name"
  elif [ -d "$entry" ]; then
    mkdir -- "$new_root/$name"
    mount --rbind -- "$entry" "$new_root/$name"
  fi
done
# sshd as root shuts its unprivileged half into this folder.
mkdir -p -- "$new_root/home" "$new_root/mnt" "$new_root/root" "$new_root/run/sshd" "$new_root/.old_root"
mount --bind -- "$passwd" "$new_root/etc/passwd"
for index in "${!sources[@]}"; do
  mkdir -p -- "$new_root${places[index]}"
  mount --bind -- "${sources[index]}" "$new_root${places[index]}"
done

cd "$new_root"
pivot_root . .old_root
cd /
umount -l /.old_root
rmdir /.old_root
# The namespace lives as long as this process, whatever happens to the sshd inside.
setsid sleep infinity </dev/null >/dev/null 2>&1 &
echo $!
