#pragma once

#include "Components/ActorComponent.h"
#include "CoreMinimal.h"

#include "VoxkitListenerComponent.generated.h"

class FVoxkitConnection;
class FVoxkitMicrophone;

/** A recognized word: seconds from the beginning of the session, confidence in [0, 1]. */
USTRUCT(BlueprintType)
struct VOXKIT_API FVoxkitWord
{
	GENERATED_BODY()

	UPROPERTY(BlueprintReadOnly, Category = "Voxkit")
	FString Word;

	UPROPERTY(BlueprintReadOnly, Category = "Voxkit")
	float Start = 0.f;

	UPROPERTY(BlueprintReadOnly, Category = "Voxkit")
	float End = 0.f;

	UPROPERTY(BlueprintReadOnly, Category = "Voxkit")
	float Confidence = 0.f;
};

DECLARE_DYNAMIC_MULTICAST_DELEGATE_OneParam(FVoxkitPartial, const FString&, Text);
DECLARE_DYNAMIC_MULTICAST_DELEGATE_ThreeParams(FVoxkitFinal, const FString&, Text, const TArray<FVoxkitWord>&, Words, bool, bFromRelease);
DECLARE_DYNAMIC_MULTICAST_DELEGATE_TwoParams(FVoxkitProblem, int32, Code, const FString&, Message);

/**
 * Speech to a voxkit server. With push-to-talk what is said between Press and Release is one utterance; without, silence ends utterances.
 * All events come on the game thread. A lost connection is made again with all audio since the last final text.
 */
UCLASS(ClassGroup = (Audio), meta = (BlueprintSpawnableComponent))
class VOXKIT_API UVoxkitListenerComponent : public UActorComponent
{
	GENERATED_BODY()

public:
	UVoxkitListenerComponent();

	/** ws://host:port of `voxkit serve`, wss:// over the internet. */
	UPROPERTY(EditAnywhere, BlueprintReadWrite, Category = "Voxkit")
	FString Url = TEXT("ws://127.0.0.1:8000");

	/** What the server asks for, if it does. */
	UPROPERTY(EditAnywhere, BlueprintReadWrite, Category = "Voxkit")
	FString Token;

	/** Speech is sent between Press and Release; otherwise always. */
	UPROPERTY(EditAnywhere, BlueprintReadWrite, Category = "Voxkit")
	bool bPushToTalk = true;

	/** Without push-to-talk: milliseconds of silence that end an utterance. */
	UPROPERTY(EditAnywhere, BlueprintReadWrite, Category = "Voxkit")
	float Endpointing = 500.f;

	/** Names and commands to favor. */
	UPROPERTY(EditAnywhere, BlueprintReadWrite, Category = "Voxkit")
	TArray<FString> Phrases;

	/** What is being said; each text replaces the one before. */
	UPROPERTY(BlueprintAssignable, Category = "Voxkit")
	FVoxkitPartial OnPartial;

	/** What was said. */
	UPROPERTY(BlueprintAssignable, Category = "Voxkit")
	FVoxkitFinal OnFinal;

	/** The connection broke and is made again; partial texts so far are void. */
	UPROPERTY(BlueprintAssignable, Category = "Voxkit")
	FVoxkitProblem OnReconnecting;

	/** Listening is over (docs/serving.md has the codes); StartListening begins anew. */
	UPROPERTY(BlueprintAssignable, Category = "Voxkit")
	FVoxkitProblem OnError;

	/** Connect, and open the microphone. */
	UFUNCTION(BlueprintCallable, Category = "Voxkit")
	void StartListening();

	/** Leave; what is unanswered stays so. */
	UFUNCTION(BlueprintCallable, Category = "Voxkit")
	void StopListening();

	/** The button goes down. */
	UFUNCTION(BlueprintCallable, Category = "Voxkit")
	void Press();

	/** The button goes up: the final text is asked for. */
	UFUNCTION(BlueprintCallable, Category = "Voxkit")
	void Release();

	/** Other phrases, from the next utterance on. */
	UFUNCTION(BlueprintCallable, Category = "Voxkit")
	void SetPhrases(const TArray<FString>& NewPhrases);

	UFUNCTION(BlueprintPure, Category = "Voxkit")
	bool IsListening() const;

	virtual void TickComponent(float DeltaTime, ELevelTick TickType, FActorComponentTickFunction* ThisTickFunction) override;
	virtual void EndPlay(const EEndPlayReason::Type Reason) override;

private:
	void Hear();

	TSharedPtr<FVoxkitConnection> Connection;
	TSharedPtr<FVoxkitMicrophone> Microphone;
	bool bTalking = false;
};
