// The cases of cyclonus, judged by cyclonus, as `cyclonus generate` does, with its batches: a pod makes
// all of its tries in one exec, not in one for each. The command has no option for them.
//
// cyclonus repeats a step with wrong tries once, and judges by the second round. What passed in the
// first although it must not is wrong here all the same: a policy was late.
//
// The arguments are tags, of which a case needs one; without any, every case runs. Ends with 1 when
// a try was judged wrong, 2 when the cluster refuses something.
package main

import (
	"fmt"
	"os"

	"github.com/mattfenwick/cyclonus/pkg/connectivity"
	"github.com/mattfenwick/cyclonus/pkg/connectivity/probe"
	"github.com/mattfenwick/cyclonus/pkg/generator"
	"github.com/mattfenwick/cyclonus/pkg/kube"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/retry"
)

// No policy keeps a pod from itself, but cyclonus expects it.
const ignoreLoopback = true

var (
	namespaces = []string{"x", "y", "z"}
	pods       = []string{"a", "b", "c"}
	ports      = []int{80, 81}
	// SCTP needs a module that not every kernel has.
	protocols = []v1.Protocol{v1.ProtocolTCP, v1.ProtocolUDP}
)

// cluster is cyclonus' client, but for an update that the kubelet's of the pod's status gets before.
type cluster struct{ *kube.Kubernetes }

func (c cluster) SetPodLabels(namespace, name string, labels map[string]string) (pod *v1.Pod, err error) {
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		pod, err = c.Kubernetes.SetPodLabels(namespace, name, labels)
		return err
	})
	return pod, err
}

func main() {
	tags := os.Args[1:]
	need(generator.ValidateTags(tags))
	client, err := kube.NewKubernetesForContext("")
	need(err)
	kubernetes := cluster{client}
	resources, err := probe.NewDefaultResources(kubernetes, namespaces, pods, ports, protocols, nil, 60, true, "")
	need(err)
	interpreter := connectivity.NewInterpreter(kubernetes, resources, &connectivity.InterpreterConfig{
		ResetClusterBeforeTestCase:       true,
		KubeProbeRetries:                 1,
		PerturbationWaitSeconds:          1,
		VerifyClusterStateBeforeTestCase: true,
		BatchJobs:                        true,
		IgnoreLoopback:                   ignoreLoopback,
	})
	printer := &connectivity.Printer{IgnoreLoopback: ignoreLoopback}
	target, err := resources.GetPod("z", "c")
	need(err)

	wrong := false
	cases := generator.NewTestCaseGenerator(true, target.IP, namespaces, tags, nil).GenerateTestCases()
	for number, testCase := range cases {
		fmt.Printf("case %d of %d\n", number+1, len(cases))
		result := interpreter.ExecuteTestCase(testCase)
		need(result.Err)
		printer.PrintTestCaseResult(result)
		wrong = gotThrough(result) || !result.Passed(ignoreLoopback) || wrong
	}
	printer.PrintSummary()
	if wrong {
		os.Exit(1)
	}
}

// gotThrough tells each try of any round that differs from what is expected, and whether one got through
// that must not.
func gotThrough(result *connectivity.Result) bool {
	through := false
	for _, step := range result.Steps {
		for round := range step.KubeProbes {
			comparison := step.Comparison(round)
			for _, pair := range comparison.Wrapped.Keys() {
				if pair.From == pair.To {
					continue
				}
				item := comparison.Get(pair.From, pair.To)
				for port, try := range item.Kube.JobResults {
					expected := item.Simulated.JobResults[port].Combined
					if try.Combined != expected {
						fmt.Printf("round %d: %s to %s at %s was %s, not %s\n", round+1, pair.From, pair.To, port, try.Combined, expected)
						through = through || try.Combined == probe.ConnectivityAllowed
					}
				}
			}
		}
	}
	return through
}

func need(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}
