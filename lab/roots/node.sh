#!/bin/sh
# What makes of a Debian root the node that Minikube starts: the steps of its own image recipe (deploy/kicbase in its source)
# for containerd, without the other runtimes. Called with the root, the result of crictl and that of kicbase.
set -eu
root=$1 crictl=$2 kicbase=$3
wrapper=$(dirname "$0")/../../roles/docker/files/runc_bounded.py

install -m 0755 "$crictl/crictl" "$kicbase/entrypoint" "$root/usr/local/bin/"
install -D -m 0644 "$kicbase/containerd.toml" "$root/etc/containerd/config.toml"
install -D -m 0644 "$kicbase/10-network-security.conf" "$root/etc/sysctl.d/10-network-security.conf"
# Where the host lacks a capability the node lacks it too; elsewhere this changes nothing.
install -m 0755 "$wrapper" "$root/usr/local/sbin/runc_bounded"
sed -i 's|^\( *\)SystemdCgroup = .*|&\n\1BinaryName = "/usr/local/sbin/runc_bounded"|' "$root/etc/containerd/config.toml"

mkdir -p "$root/etc/kubernetes/manifests" "$root/etc/containerd/certs.d" "$root/etc/cni/net.d" "$root/opt/cni/bin" "$root/kind"
cp -a "$root/usr/lib/cni/." "$root/opt/cni/bin/"

# systemd starts what Minikube asks it to and nothing else.
units=$root/lib/systemd/system
rm -f "$units/sysinit.target.wants/systemd-tmpfiles-setup.service" "$units"/multi-user.target.wants/* \
    "$root"/etc/systemd/system/*.wants/* "$units"/local-fs.target.wants/* "$units"/sockets.target.wants/*udev* \
    "$units"/sockets.target.wants/*initctl* "$units"/basic.target.wants/*
chroot "$root" systemctl disable udev.service containerd.service
chroot "$root" systemctl mask systemd-binfmt.service
# What claims hold is below /var, so that it outlives a stop of the node: /tmp doesn't.
install -m 0755 "$kicbase/minikube-automount" "$root/usr/sbin/minikube-automount"
install -m 0644 "$kicbase/minikube-automount.service" "$units/minikube-automount.service"
chroot "$root" systemctl enable ssh.service minikube-automount.service
echo ReadKMsg=no >> "$root/etc/systemd/journald.conf"
ln -sf /lib/systemd/systemd "$root/sbin/init"
sed -i '/^\[Service\]/a LimitNOFILE=1048576' "$units/containerd.service"
sed -i 's/dns files/files dns/' "$root/etc/nsswitch.conf"

# The runtime wrapper needs its library: better here than in every start of a container.
chroot "$root" /usr/local/sbin/runc_bounded --version > /dev/null

# Each node makes its own SSH host keys when it starts: an image with keys in it would give all nodes the same.
rm -f "$root"/etc/ssh/ssh_host_*
mkdir -p "$root/etc/systemd/system/ssh.service.d"
printf '[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\nExecStartPre=/usr/sbin/sshd -t\n' \
    > "$root/etc/systemd/system/ssh.service.d/host-keys.conf"
printf 'PubkeyAcceptedAlgorithms +ssh-rsa\nHostkeyAlgorithms +ssh-rsa\nPasswordAuthentication no\n' >> "$root/etc/ssh/sshd_config"

# Minikube logs in as this user.
chroot "$root" groupadd -f docker
chroot "$root" useradd -m -s /bin/bash -g docker -G sudo docker
chroot "$root" passwd -d docker > /dev/null
echo '%sudo ALL=(ALL) NOPASSWD:ALL' > "$root/etc/sudoers.d/20-passwordless-sudo"
chmod 0440 "$root/etc/sudoers.d/20-passwordless-sudo"
chroot "$root" install -d -o docker -g docker -m 0700 /home/docker/.ssh

install -m 0644 "$kicbase/version.json" "$root/version.json"
rm -f "$root/etc/machine-id" "$root/var/lib/dbus/machine-id"
: > "$root/etc/machine-id"
