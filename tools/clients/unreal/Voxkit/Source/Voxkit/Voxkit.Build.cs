using UnrealBuildTool;

public class Voxkit : ModuleRules
{
    public Voxkit(ReadOnlyTargetRules Target) : base(Target)
    {
        PCHUsage = PCHUsageMode.UseExplicitOrSharedPCHs;
        CppStandard = CppStandardVersion.Cpp20; // the protocol itself (Public/voxkit) is C++17
        bEnableExceptions = true; // options that no server takes
        PublicDependencyModuleNames.AddRange(new[] { "Core", "CoreUObject", "Engine" });
        PrivateDependencyModuleNames.AddRange(new[] { "WebSockets", "Json", "AudioCaptureCore" });
    }
}
