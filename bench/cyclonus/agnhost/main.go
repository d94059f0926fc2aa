// The two commands of Kubernetes' agnhost that cyclonus runs in its pods. The complete agnhost takes
// ten times as long to start, and cyclonus starts it for every attempt.
package main

import (
	"os"

	"github.com/spf13/cobra"
	"k8s.io/kubernetes/test/images/agnhost/connect"
	servehostname "k8s.io/kubernetes/test/images/agnhost/serve-hostname"
)

func main() {
	agnhost := &cobra.Command{Use: "agnhost"}
	agnhost.AddCommand(connect.CmdConnect, servehostname.CmdServeHostname)
	if agnhost.Execute() != nil {
		os.Exit(2)
	}
}
