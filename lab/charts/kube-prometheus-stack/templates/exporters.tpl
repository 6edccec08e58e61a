{{- $images := include "stack.images" . | fromYaml }}
{{- $ksm := dict "context" . "name" "kube-state-metrics" }}
{{- $ksmName := printf "%s-kube-state-metrics" .Release.Name }}
{{- $node := dict "context" . "name" "prometheus-node-exporter" }}
{{- $nodeName := printf "%s-prometheus-node-exporter" .Release.Name }}
{{- $resources := list "configmaps" "limitranges" "namespaces" "nodes" "persistentvolumeclaims" "persistentvolumes" "pods" "replicationcontrollers" "resourcequotas" "secrets" "services" }}
{{- $groups := dict
    "apps" (list "daemonsets" "deployments" "replicasets" "statefulsets")
    "autoscaling" (list "horizontalpodautoscalers")
    "batch" (list "cronjobs" "jobs")
    "policy" (list "poddisruptionbudgets")
    "storage.k8s.io" (list "storageclasses" "volumeattachments") }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $ksmName }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "stack.exporterLabels" $ksm | nindent 4 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $ksmName }}
  labels: {{- include "stack.exporterLabels" $ksm | nindent 4 }}
rules:
  - apiGroups: [""]
    resources: {{ $resources | toJson }}
    verbs: [list, watch]
  {{- range $group, $names := $groups }}
  - apiGroups: [{{ $group }}]
    resources: {{ $names | toJson }}
    verbs: [list, watch]
  {{- $resources = concat $resources $names }}
  {{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $ksmName }}
  labels: {{- include "stack.exporterLabels" $ksm | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ $ksmName }}}
subjects:
  - {kind: ServiceAccount, name: {{ $ksmName }}, namespace: {{ .Release.Namespace }}}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $ksmName }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "stack.exporterLabels" $ksm | nindent 4 }}
spec:
  selector: {{- include "stack.exporterSelector" $ksm | nindent 4 }}
  ports:
    - {name: http, port: 8080, targetPort: http}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $ksmName }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "stack.exporterLabels" $ksm | nindent 4 }}
spec:
  replicas: 1
  selector:
    matchLabels: {{- include "stack.exporterSelector" $ksm | nindent 6 }}
  template:
    metadata:
      labels: {{- include "stack.exporterLabels" $ksm | nindent 8 }}
    spec:
      serviceAccountName: {{ $ksmName }}
      securityContext: {{- include "stack.podSecurity" . | nindent 8 }}
      containers:
        - name: kube-state-metrics
          image: {{ $images.kubeStateMetrics }}
          imagePullPolicy: IfNotPresent
          args:
            - --port=8080
            - --resources={{ $resources | sortAlpha | join "," }}
          ports:
            - {name: http, containerPort: 8080}
            - {name: metrics, containerPort: 8081}
          livenessProbe:
            httpGet: {path: /livez, port: http}
          readinessProbe:
            httpGet: {path: /readyz, port: metrics}
          resources: {{- toYaml (index .Values "kube-state-metrics").resources | nindent 12 }}
          securityContext: {{- include "stack.containerSecurity" . | nindent 12 }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ $ksmName }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "stack.exporterLabels" $ksm | nindent 4 }}
spec:
  jobLabel: app.kubernetes.io/name
  selector:
    matchLabels: {{- include "stack.exporterSelector" $ksm | nindent 6 }}
  endpoints:
    - port: http
      honorLabels: true
      {{- with (index .Values "kube-state-metrics").prometheus.monitor.http.interval }}
      interval: {{ . }}
      {{- end }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $nodeName }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "stack.exporterLabels" $node | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $nodeName }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "stack.exporterLabels" $node | nindent 4 }}
    jobLabel: node-exporter
spec:
  selector: {{- include "stack.exporterSelector" $node | nindent 4 }}
  ports:
    - {name: http-metrics, port: 9100, targetPort: 9100}
---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: {{ $nodeName }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "stack.exporterLabels" $node | nindent 4 }}
spec:
  selector:
    matchLabels: {{- include "stack.exporterSelector" $node | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "stack.exporterLabels" $node | nindent 8 }}
        jobLabel: node-exporter
    spec:
      automountServiceAccountToken: false
      serviceAccountName: {{ $nodeName }}
      hostNetwork: true
      hostPID: true
      securityContext:
        runAsNonRoot: true
        runAsUser: 65534
        runAsGroup: 65534
        fsGroup: 65534
      nodeSelector:
        kubernetes.io/os: linux
      tolerations:
        - {effect: NoSchedule, operator: Exists}
      containers:
        - name: node-exporter
          image: {{ $images.nodeExporter }}
          imagePullPolicy: IfNotPresent
          args:
            - --path.procfs=/host/proc
            - --path.sysfs=/host/sys
            - --path.rootfs=/host/root
            - --web.listen-address=0.0.0.0:9100
            - --collector.filesystem.mount-points-exclude=^/(dev|proc|run|sys|var/lib/(docker|kubelet))($|/)
          ports:
            - {name: http-metrics, containerPort: 9100}
          livenessProbe:
            httpGet: {path: /, port: http-metrics}
          readinessProbe:
            httpGet: {path: /, port: http-metrics}
          resources: {{- toYaml (index .Values "prometheus-node-exporter").resources | nindent 12 }}
          securityContext: {{- include "stack.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - {name: proc, mountPath: /host/proc, readOnly: true}
            - {name: sys, mountPath: /host/sys, readOnly: true}
            - {name: root, mountPath: /host/root, readOnly: true, mountPropagation: HostToContainer}
      volumes:
        - {name: proc, hostPath: {path: /proc}}
        - {name: sys, hostPath: {path: /sys}}
        - {name: root, hostPath: {path: /}}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ $nodeName }}
  namespace: {{ .Release.Namespace }}
  labels: {{- include "stack.exporterLabels" $node | nindent 4 }}
spec:
  jobLabel: jobLabel
  selector:
    matchLabels: {{- include "stack.exporterSelector" $node | nindent 6 }}
  endpoints:
    - port: http-metrics
      scheme: http
      {{- with (index .Values "prometheus-node-exporter").prometheus.monitor.interval }}
      interval: {{ . }}
      {{- end }}
