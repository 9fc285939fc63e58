package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/kwok/pkg/apis/internalversion"
	"sigs.k8s.io/kwok/pkg/config"
	"sigs.k8s.io/kwok/pkg/kwok/controllers"
	"sigs.k8s.io/kwok/pkg/utils/client"
	"sigs.k8s.io/kwok/pkg/utils/slices"
)

// newKwokCommand runs KWOK's controllers, which play nodes and their pods, with the flags of its own command that the tests use.
//
// Its own command also serves logs and shells of the pods; that server does not compile with these versions of Kubernetes' libraries.
func newKwokCommand() *cobra.Command {
	var kubeconfig, stages string
	// What is not a flag has the defaults of KWOK's configuration.
	settings := controllers.Config{
		Clock:                         clock.RealClock{},
		PodPlayStageParallelism:       4,
		NodePlayStageParallelism:      4,
		NodeLeaseParallelism:          4,
		PodsOnNodeSyncParallelism:     1,
		EnablePodsOnNodeSyncListPager: true,
	}
	command := &cobra.Command{
		Use:          "kwok",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(*cobra.Command, []string) error {
			return play(context.Background(), kubeconfig, stages, settings)
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server")
	command.Flags().StringVar(&stages, "config", "", "file of Stages: how nodes and pods behave")
	command.Flags().StringVar(&settings.ManageNodesWithLabelSelector, "manage-nodes-with-label-selector", "", "the nodes to play")
	command.Flags().StringVar(&settings.CIDR, "cidr", "10.0.0.0/24", "addresses of the pods")
	command.Flags().UintVar(&settings.NodeLeaseDurationSeconds, "node-lease-duration-seconds", 40, "lifetime of a node's lease")
	return command
}

func play(ctx context.Context, kubeconfig, file string, settings controllers.Config) error {
	loaded, err := config.Load(ctx, file)
	if err != nil {
		return err
	}
	settings.LocalStages = slices.GroupBy(config.FilterWithType[*internalversion.Stage](loaded),
		func(stage *internalversion.Stage) internalversion.StageResourceRef { return stage.Spec.ResourceRef })
	if len(settings.LocalStages) == 0 {
		return errors.New("no stages: give their file by --config")
	}
	clients, err := client.NewClientset("", kubeconfig)
	if err != nil {
		return err
	}
	access, err := clients.ToRESTConfig()
	if err != nil {
		return err
	}
	settings.ImpersonatingDynamicClient = clients.ToImpersonatingDynamicClient()
	settings.ImpersonatingTypedClient = clients.ToImpersonatingTypedClient()
	if settings.DynamicClient, err = clients.ToDynamicClient(); err != nil {
		return err
	}
	if settings.RESTMapper, err = clients.ToRESTMapper(); err != nil {
		return err
	}
	if settings.RESTClient, err = rest.RESTClientFor(access); err != nil {
		return err
	}
	if settings.TypedClient, err = kubernetes.NewForConfig(access); err != nil {
		return err
	}
	if settings.ID, err = controllers.Identity(); err != nil {
		return err
	}
	controller, err := controllers.NewController(settings)
	if err != nil {
		return err
	}
	if err := controller.Start(ctx); err != nil {
		return err
	}
	select {} // until it is killed
}
