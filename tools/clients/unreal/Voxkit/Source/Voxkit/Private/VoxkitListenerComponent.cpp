#include "VoxkitListenerComponent.h"

#include "VoxkitConnection.h"
#include "VoxkitMicrophone.h"

UVoxkitListenerComponent::UVoxkitListenerComponent() { PrimaryComponentTick.bCanEverTick = true; }

void UVoxkitListenerComponent::StartListening()
{
	StopListening();
	Microphone = MakeShared<FVoxkitMicrophone>();
	if (!Microphone->Open())
	{
		Microphone.Reset();
		OnError.Broadcast(0, TEXT("there is no microphone, or it is not allowed"));
		return;
	}
	voxkit::Options Options;
	Options.url = TCHAR_TO_UTF8(*Url);
	Options.token = TCHAR_TO_UTF8(*Token);
	Options.sample_rate = Microphone->Rate;
	Options.endpointing = bPushToTalk ? 0 : Endpointing;
	for (const FString& Phrase : Phrases) Options.phrases.push_back(TCHAR_TO_UTF8(*Phrase));
	try
	{
		Connection = MakeShared<FVoxkitConnection>(MoveTemp(Options));
	}
	catch (const std::invalid_argument& Error)
	{
		Microphone.Reset();
		OnError.Broadcast(0, FString(UTF8_TO_TCHAR(Error.what())));
	}
}

void UVoxkitListenerComponent::StopListening()
{
	Connection.Reset();
	Microphone.Reset();
	bTalking = false;
}

void UVoxkitListenerComponent::Press()
{
	if (Microphone.IsValid() && !bTalking) Microphone->Take(); // what was said before the button
	bTalking = true;
}

void UVoxkitListenerComponent::Release()
{
	if (!bTalking) return;
	Hear(); // up to now
	bTalking = false;
	if (Connection.IsValid()) Connection->Session.end_utterance();
}

void UVoxkitListenerComponent::SetPhrases(const TArray<FString>& NewPhrases)
{
	Phrases = NewPhrases;
	if (Connection.IsValid()) Connection->Configure(NewPhrases);
}

bool UVoxkitListenerComponent::IsListening() const { return Connection.IsValid(); }

void UVoxkitListenerComponent::Hear()
{
	if (!Microphone.IsValid() || !Connection.IsValid()) return;
	const TArray<float> Samples = Microphone->Take();
	Connection->Session.append(Samples.GetData(), Samples.Num());
}

void UVoxkitListenerComponent::TickComponent(float DeltaTime, ELevelTick TickType, FActorComponentTickFunction* ThisTickFunction)
{
	Super::TickComponent(DeltaTime, TickType, ThisTickFunction);
	if (!Connection.IsValid()) return;
	if (bTalking || !bPushToTalk) Hear();
	for (const voxkit::Event& Event : Connection->Tick())
	{
		const FString Text(UTF8_TO_TCHAR(Event.text.c_str())), Message(UTF8_TO_TCHAR(Event.message.c_str()));
		switch (Event.kind)
		{
		case voxkit::Kind::result:
			if (!Event.final)
			{
				OnPartial.Broadcast(Text);
			}
			else if (!Text.IsEmpty())
			{
				TArray<FVoxkitWord> Words;
				for (const voxkit::Word& Word : Event.words)
				{
					FVoxkitWord& Added = Words.AddDefaulted_GetRef();
					Added.Word = FString(UTF8_TO_TCHAR(Word.word.c_str()));
					Added.Start = static_cast<float>(Word.start);
					Added.End = static_cast<float>(Word.end);
					Added.Confidence = static_cast<float>(Word.confidence);
				}
				OnFinal.Broadcast(Text, Words, Event.from_finalize);
			}
			break;
		case voxkit::Kind::reconnecting:
			OnReconnecting.Broadcast(Event.code, Message);
			break;
		case voxkit::Kind::error:
			StopListening();
			OnError.Broadcast(Event.code, Message);
			return;
		default:
			break;
		}
		if (!Connection.IsValid()) return; // a listener stopped it
	}
}

void UVoxkitListenerComponent::EndPlay(const EEndPlayReason::Type Reason)
{
	StopListening();
	Super::EndPlay(Reason);
}
