{{- $name := include "stack.name" . }}
{{- $token := "/var/run/secrets/kubernetes.io/serviceaccount/token" }}
{{- $ca := "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt" }}
{{/* The parts of the control plane that run as pods: key of the values, name, port, scheme, selector of the pods. */}}
{{- $parts := list
    (list "coreDns" "coredns" 9153 "http" (dict "k8s-app" "kube-dns"))
    (list "kubeControllerManager" "kube-controller-manager" 10257 "https" (dict "component" "kube-controller-manager"))
    (list "kubeEtcd" "kube-etcd" 2381 "http" (dict "component" "etcd"))
    (list "kubeProxy" "kube-proxy" 10249 "http" (dict "k8s-app" "kube-proxy"))
    (list "kubeScheduler" "kube-scheduler" 10259 "https" (dict "component" "kube-scheduler")) }}
{{- range $parts }}
{{- $part := index . 1 }}
{{- if (index $.Values (index . 0)).enabled }}
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}-{{ $part }}
  namespace: kube-system
  labels:
    {{- include "stack.labels" $ | nindent 4 }}
    app: kube-prometheus-stack-{{ $part }}
    jobLabel: {{ $part }}
spec:
  clusterIP: None
  selector: {{- toYaml (index . 4) | nindent 4 }}
  ports:
    - {name: http-metrics, port: {{ index . 2 }}, targetPort: {{ index . 2 }}}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ $name }}-{{ $part }}
  namespace: {{ $.Release.Namespace }}
  labels:
    {{- include "stack.labels" $ | nindent 4 }}
    app: kube-prometheus-stack-{{ $part }}
spec:
  jobLabel: jobLabel
  selector:
    matchLabels:
      app: kube-prometheus-stack-{{ $part }}
      release: {{ $.Release.Name }}
  namespaceSelector:
    matchNames: [kube-system]
  endpoints:
    - port: http-metrics
      bearerTokenFile: {{ $token }}
      {{- if eq (index . 3) "https" }}
      scheme: https
      tlsConfig: {caFile: {{ $ca }}, insecureSkipVerify: true}
      {{- end }}
---
{{- end }}
{{- end }}
{{- if .Values.kubeApiServer.enabled }}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ $name }}-apiserver
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "stack.labels" . | nindent 4 }}
    app: kube-prometheus-stack-apiserver
spec:
  jobLabel: component
  selector:
    matchLabels: {component: apiserver, provider: kubernetes}
  namespaceSelector:
    matchNames: [default]
  endpoints:
    - port: https
      scheme: https
      bearerTokenFile: {{ $token }}
      tlsConfig: {caFile: {{ $ca }}, serverName: kubernetes}
      {{- with .Values.kubeApiServer.serviceMonitor.interval }}
      interval: {{ . }}
      {{- end }}
      # The buckets of these histograms would be most of all series.
      metricRelabelings:
        - {action: drop, sourceLabels: [__name__], regex: (apiserver|etcd)_(request|response|watch)_.*_bucket}
---
{{- end }}
{{- if .Values.kubelet.enabled }}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ $name }}-kubelet
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "stack.labels" . | nindent 4 }}
    app: kube-prometheus-stack-kubelet
spec:
  jobLabel: k8s-app
  selector:
    matchLabels: {app.kubernetes.io/name: kubelet, k8s-app: kubelet}
  namespaceSelector:
    matchNames: [kube-system]
  endpoints:
    {{- range $path := list "/metrics" "/metrics/cadvisor" "/metrics/probes" }}
    - port: https-metrics
      scheme: https
      path: {{ $path }}
      bearerTokenFile: {{ $token }}
      tlsConfig: {caFile: {{ $ca }}, insecureSkipVerify: true}
      honorLabels: true
      {{- with ternary $.Values.kubelet.serviceMonitor.cAdvisorInterval $.Values.kubelet.serviceMonitor.interval (eq $path "/metrics/cadvisor") }}
      interval: {{ . }}
      {{- end }}
      relabelings:
        - {action: replace, sourceLabels: [__metrics_path__], targetLabel: metrics_path}
      {{- if eq $path "/metrics/cadvisor" }}
      # A container that is gone is stale at once, and cgroups without a pod are left out.
      trackTimestampsStaleness: true
      metricRelabelings:
        - {action: drop, sourceLabels: [__name__], regex: container_(fs_.*|spec.*|tasks_state|memory_failures_total)}
        - {action: drop, sourceLabels: [id, pod], regex: .+;}
      {{- end }}
    {{- end }}
{{- end }}
