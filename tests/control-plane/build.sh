#!/usr/bin/env bash
# Builds the control plane (etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl, kwok, helm) from the
# pinned Go modules beside this script and prints the folder that holds the binaries.
#
# The folder lies outside the checkout and is named by a hash of the modules' lock files, so an unchanged lock is built
# once per machine. KUBEBUILDER_ASSETS (the convention of envtest) may name a folder that already holds some of the
# binaries: those are linked instead of built.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MULTIGRES_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/multigres-operator}
modules=$here/modules
lock=$(cd "$modules" && cat ./*/go.mod ./*/go.sum "$here/build.sh" | sha256sum | cut -c1-16)
if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  lock=$lock-$(printf '%s' "$KUBEBUILDER_ASSETS" | sha256sum | cut -c1-8)
fi
bin=$cache/control-plane-$lock

command -v go >/dev/null || { echo "Go is missing: install Go 1.26 or newer (https://go.dev/dl)" >&2; exit 1; }

mkdir -p "$bin"
exec 9>"$bin/.building"
flock 9

kubernetes_version=$(sed -n 's/^.*k8s.io\/kubernetes \(v[0-9.]*\).*$/\1/p' "$modules/kubernetes/go.mod" | head -n 1)
version_flags="-X k8s.io/component-base/version.gitVersion=$kubernetes_version"
version_flags+=" -X k8s.io/component-base/version.gitMajor=$(echo "${kubernetes_version#v}" | cut -d. -f1)"
version_flags+=" -X k8s.io/component-base/version.gitMinor=$(echo "$kubernetes_version" | cut -d. -f2)"

# build NAME MODULE PACKAGE
build() {
  [ -x "$bin/$1" ] && return 0
  if [ -n "${KUBEBUILDER_ASSETS:-}" ] && [ -x "$KUBEBUILDER_ASSETS/$1" ]; then
    ln -s "$KUBEBUILDER_ASSETS/$1" "$bin/$1"
    return 0
  fi
  echo "building $1 (once per lock file, cached in $bin)" >&2
  (cd "$modules/$2" && CGO_ENABLED=0 go build -ldflags "-s -w $version_flags" -o "$bin/.$1" "$3") >&2
  mv "$bin/.$1" "$bin/$1"
}

build etcd                    etcd       go.etcd.io/etcd/server/v3
build etcdctl                 etcd       go.etcd.io/etcd/etcdctl/v3
build kube-apiserver          kubernetes k8s.io/kubernetes/cmd/kube-apiserver
build kube-controller-manager kubernetes k8s.io/kubernetes/cmd/kube-controller-manager
build kube-scheduler          kubernetes k8s.io/kubernetes/cmd/kube-scheduler
build kubectl                 kubernetes k8s.io/kubernetes/cmd/kubectl
build kwok                    kwok       sigs.k8s.io/kwok/cmd/kwok
build helm                    helm       helm.sh/helm/v4/cmd/helm

echo "$bin"
