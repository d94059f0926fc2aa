// Runs and judges the cases of cyclonus as `cyclonus generate` does, but in batches: a pod makes all
// of its attempts in one exec instead of one exec each. The command has no option for that.
//
// When attempts of a step fail, cyclonus repeats the step once and judges only the second round.
// Here, an attempt that got through in the first round although it had to be blocked is a failure
// too, because the policy was enforced too late.
//
// The arguments are tags: only cases with one of them run, or all cases without arguments. The exit
// code is 1 if an attempt was judged wrong, and 2 if the cluster refused a request.
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

// A pod always reaches itself, but cyclonus expects that policies can block this.
const ignoreLoopback = true

var (
	namespaces = []string{"x", "y", "z"}
	pods       = []string{"a", "b", "c"}
	ports      = []int{80, 81}
	// SCTP needs a kernel module that not every kernel has.
	protocols = []v1.Protocol{v1.ProtocolTCP, v1.ProtocolUDP}
)

// cluster is the client of cyclonus, but it repeats a change of labels that conflicts with the
// kubelet's update of the pod's status.
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

// gotThrough prints each attempt of any round with an unexpected result, and returns whether one got
// through that had to be blocked.
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
